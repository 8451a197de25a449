"""What a cache at each backend would have spared it, from what it was asked for."""

from collections import OrderedDict


def hits(sizes, room_bytes):
    """How many of these requests, (name, bytes) in their order, a cache of this room answers that forgets what was used least recently."""
    held, held_bytes, found = OrderedDict(), 0, 0
    for name, size in sizes:
        if name in held:
            held.move_to_end(name)
            found += 1
            continue
        if size > room_bytes:
            continue
        held[name] = size
        held_bytes += size
        while held_bytes > room_bytes:
            held_bytes -= held.popitem(last=False)[1]
    return found
