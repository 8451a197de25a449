"""Writes the TOML the lab's configuration files need: tables and arrays of tables, with tables in line inside them."""

import json


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)  # a JSON string is a TOML basic string
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"no TOML form for {value!r}")


def toml_text(document):
    """`document`: {"table": {key: value}, "array": [{key: value}, ...]}, in order. None values are left out; a value may be a
    table itself, and is then written in line."""
    lines = []
    for name, content in document.items():
        headed = ((f"[[{name}]]", entry) for entry in content) if isinstance(content, list) \
            else ((f"[{name}]", content),)
        for head, table in headed:
            lines.append(head)
            lines += [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
            lines.append("")
    return "\n".join(lines)


def merged(document, changes):
    """`document` with the values of `changes` put over it: of a table key by key, a list in place of the one there. Sections
    `document` does not have are added. Neither argument is changed."""
    result = dict(document)
    for name, content in (changes or {}).items():
        is_table = isinstance(content, dict) and name in result
        result[name] = {**result[name], **content} if is_table else content
    return result
