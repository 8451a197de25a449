-- Wireshark dissector for Baton's handoff header (docs/PROTOCOL.md): UDP port 7171, version 1.
--
--   tshark -X lua_script:scripts/dissector/baton.lua -r capture.pcap -Y baton
--   wireshark: copy this file to the folder "Personal Lua Plugins" of Help, About, Folders
--
-- The client's packet behind the header is given to Wireshark's own IP dissector. The tag is shown, not verified.

local HEADER_BYTES = 56
local PORT = 7171
local MAGIC = 0x42544f4e -- "BTON"
local VERSION = 1
local WSCALE_MAX = 14
local FLAGS_KNOWN = 0x000f
local TYPE_GONE = 6
local TYPE_MINE = 9
local QUOTE_BYTES = 40
local LCORE_ANY = 255

local TYPES = {
    [1] = "HANDOFF", [2] = "FORWARD", [3] = "KILL", [4] = "KILLED", [5] = "BUSY",
    [6] = "GONE", [7] = "REFUSED", [8] = "WHO-HAS", [9] = "MINE", [10] = "ICMP",
}

local DETAILS = {
    [0] = "none", [1] = "no listener", [2] = "accept queue full", [3] = "backend not ready", [4] = "kernel refused",
    [5] = "records full", [6] = "4-tuple occupied", [7] = "old generation", [8] = "no socket",
}

-- Of a MINE, the detail is the state of the socket.
local STATES = {
    [1] = "ESTABLISHED", [2] = "SYN_SENT", [3] = "SYN_RECV", [4] = "FIN_WAIT1", [5] = "FIN_WAIT2",
    [6] = "TIME_WAIT", [8] = "CLOSE_WAIT", [9] = "LAST_ACK", [11] = "CLOSING",
}

local baton = Proto("baton", "Baton Handoff")

local f = {
    magic = ProtoField.uint32("baton.magic", "Magic", base.HEX),
    version = ProtoField.uint8("baton.version", "Version", base.DEC),
    type = ProtoField.uint8("baton.type", "Type", base.DEC, TYPES),
    flags = ProtoField.uint16("baton.flags", "Flags", base.HEX),
    flag_wscale = ProtoField.bool("baton.flags.wscale", "Window scaling", 16, nil, 0x0001),
    flag_sack = ProtoField.bool("baton.flags.sack", "Selective acknowledgments", 16, nil, 0x0002),
    flag_timestamps = ProtoField.bool("baton.flags.timestamps", "Timestamps", 16, nil, 0x0004),
    flag_ecn = ProtoField.bool("baton.flags.ecn", "Explicit congestion notification", 16, nil, 0x0008),
    wscale_send = ProtoField.uint8("baton.wscale.send", "Shift of the client's windows", base.DEC, nil, 0xf0),
    wscale_receive = ProtoField.uint8("baton.wscale.receive", "Shift the switch announced", base.DEC, nil, 0x0f),
    key_id = ProtoField.uint8("baton.key_id", "Key id", base.DEC),
    mss = ProtoField.uint16("baton.mss", "Client's MSS (bytes)", base.DEC),
    base_seq = ProtoField.uint32("baton.base_seq", "Base sequence number", base.DEC),
    base_ack = ProtoField.uint32("baton.base_ack", "Base acknowledgment number", base.DEC),
    tsval = ProtoField.uint32("baton.tsval", "Base TSval", base.DEC),
    tsecr = ProtoField.uint32("baton.tsecr", "Base TSecr", base.DEC),
    detail = ProtoField.uint16("baton.detail", "Detail", base.DEC, DETAILS),
    state = ProtoField.uint16("baton.state", "State of the socket", base.DEC, STATES),
    lcore = ProtoField.uint8("baton.lcore", "Lcore that asked", base.DEC),
    reserved = ProtoField.uint8("baton.reserved", "Reserved", base.HEX),
    generation = ProtoField.uint64("baton.generation", "Generation (us)", base.DEC),
    issued = ProtoField.uint64("baton.issued", "Issue time (us)", base.DEC),
    issued_at = ProtoField.absolute_time("baton.issued_at", "Issued at", base.UTC),
    tag = ProtoField.uint64("baton.tag", "Tag", base.HEX),
}
baton.fields = f

local function fault(name, text)
    return ProtoExpert.new("baton." .. name, text, expert.group.MALFORMED, expert.severity.ERROR)
end

local e = {
    truncated = fault("truncated", "Fewer bytes than a handoff header has (56)"),
    magic = fault("magic.wrong", "Not a handoff header: the magic is not BTON"),
    version = fault("version.unknown", "Header version not known to this dissector (1)"),
    type = fault("type.unknown", "Unknown message type"),
    flags = fault("flags.unknown", "Flags that version 1 does not have"),
    wscale = fault("wscale.impossible", "A window shift over 14, or one without its flag"),
    detail = fault("detail.unknown", "Unknown detail"),
    state = fault("state.unknown", "Not the state of a connection"),
    reserved = fault("reserved.set", "The reserved byte is not zero"),
}
baton.experts = e

local function add_options(tree, buffer)
    local flags = buffer(6, 2):uint()
    local flags_tree = tree:add(f.flags, buffer(6, 2))
    flags_tree:add(f.flag_wscale, buffer(6, 2))
    flags_tree:add(f.flag_sack, buffer(6, 2))
    flags_tree:add(f.flag_timestamps, buffer(6, 2))
    flags_tree:add(f.flag_ecn, buffer(6, 2))
    if flags - bit.band(flags, FLAGS_KNOWN) ~= 0 then
        flags_tree:add_proto_expert_info(e.flags)
    end
    local send = tree:add(f.wscale_send, buffer(8, 1))
    tree:add(f.wscale_receive, buffer(8, 1))
    local shifts = buffer(8, 1):uint()
    local over = bit.rshift(shifts, 4) > WSCALE_MAX or bit.band(shifts, 0x0f) > WSCALE_MAX
    if over or (bit.band(flags, 1) == 0 and shifts ~= 0) then
        send:add_proto_expert_info(e.wscale)
    end
end

local function add_times(tree, buffer)
    tree:add(f.generation, buffer(32, 8))
    local issued = buffer(40, 8):uint64()
    local item = tree:add(f.issued, buffer(40, 8))
    local seconds, rest = issued / 1000000, issued % 1000000
    item:add(f.issued_at, buffer(40, 8), NSTime.new(seconds:tonumber(), rest:tonumber() * 1000)):set_generated()
end

local function add_detail(tree, kind, range)
    if kind == TYPE_MINE then
        local item = tree:add(f.state, range)
        if not STATES[range:uint()] then
            item:add_proto_expert_info(e.state)
        end
    elseif not DETAILS[range:uint()] then
        tree:add(f.detail, range):add_proto_expert_info(e.detail)
    else
        tree:add(f.detail, range)
    end
end

-- Shows the fields of a header whose magic and version are right; returns its type.
local function add_fields(tree, buffer)
    local kind = buffer(5, 1):uint()
    local item = tree:add(f.type, buffer(5, 1))
    if not TYPES[kind] then
        item:add_proto_expert_info(e.type)
    end
    add_options(tree, buffer)
    tree:add(f.key_id, buffer(9, 1))
    tree:add(f.mss, buffer(10, 2))
    tree:add(f.base_seq, buffer(12, 4))
    tree:add(f.base_ack, buffer(16, 4))
    tree:add(f.tsval, buffer(20, 4))
    tree:add(f.tsecr, buffer(24, 4))
    add_detail(tree, kind, buffer(28, 2))
    item = tree:add(f.lcore, buffer(30, 1))
    if buffer(30, 1):uint() == LCORE_ANY then
        item:append_text(" (whichever has the flow)")
    end
    item = tree:add(f.reserved, buffer(31, 1))
    if buffer(31, 1):uint() ~= 0 then
        item:add_proto_expert_info(e.reserved)
    end
    add_times(tree, buffer)
    tree:add(f.tag, buffer(48, 8))
    return kind
end

-- What the packet list says: the type, why, and from whom to whom; the inner protocols' own words follow.
local function summary(kind, buffer)
    local text = TYPES[kind] or ("type " .. kind)
    local detail = buffer(28, 2):uint()
    if detail ~= 0 then
        text = text .. " (" .. ((kind == TYPE_MINE and STATES or DETAILS)[detail] or detail) .. ")"
    end
    return text .. " generation " .. tostring(buffer(32, 8):uint64()) .. " | "
end

-- GONE carries the first 40 bytes of a packet, whose lengths speak of more. Shows them as if that were all, for Wireshark
-- would call every such packet malformed.
local function quoted(buffer)
    local range = buffer(HEADER_BYTES)
    if range:len() ~= QUOTE_BYTES or range(0, 1):uint() ~= 0x45 then
        return range:tvb()
    end
    local bytes = range:bytes()
    bytes:set_index(2, 0)
    bytes:set_index(3, QUOTE_BYTES)
    bytes:set_index(32, 0x50)
    return bytes:tvb("Quoted headers, lengths mended")
end

local ip = Dissector.get("ip")

function baton.dissector(buffer, pinfo, root)
    local length = buffer:len()
    local tree = root:add(baton, buffer(0, math.min(length, HEADER_BYTES)))
    pinfo.cols.protocol = "Baton"
    if length < HEADER_BYTES then
        tree:add_proto_expert_info(e.truncated)
        pinfo.cols.info = "truncated handoff header"
        return length
    end
    local item = tree:add(f.magic, buffer(0, 4))
    if buffer(0, 4):uint() ~= MAGIC then
        item:add_proto_expert_info(e.magic)
        pinfo.cols.info = "not a handoff header"
        return length
    end
    item = tree:add(f.version, buffer(4, 1))
    if buffer(4, 1):uint() ~= VERSION then
        item:add_proto_expert_info(e.version)
        pinfo.cols.info = "handoff header of version " .. buffer(4, 1):uint()
        return length
    end
    local kind = add_fields(tree, buffer)
    local text = summary(kind, buffer)
    tree:append_text(", " .. text:gsub(" | $", ""))
    pinfo.cols.info = text
    if length > HEADER_BYTES then
        ip:call(kind == TYPE_GONE and quoted(buffer) or buffer(HEADER_BYTES):tvb(), pinfo, root)
        pinfo.cols.protocol = "Baton"
        pinfo.cols.info:prepend(text)
    end
    return length
end

DissectorTable.get("udp.port"):add(PORT, baton)
