"""Makes a module that dies on demand: the filter itself, with one of its callbacks replaced by `unreachable`."""

from collections.abc import Iterator

IMPORTS, EXPORTS, CODE = 2, 7, 10
FUNCTION = 0
#: A function body: no locals, `unreachable`, `end`.
TRAP = bytes([3, 0, 0x00, 0x0B])


def with_trap(module: bytes, export: str) -> bytes:
    """The same module, in which the exported function traps as soon as it is called."""
    sections = list(_sections(module))
    bodies = dict(sections)
    index = _exported(bodies[EXPORTS], export) - _imported_functions(bodies[IMPORTS])
    result = module[:8]
    for kind, content in sections:
        content = _replace_body(content, index) if kind == CODE else content
        result += bytes([kind]) + _leb(len(content)) + content
    return result


def _sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    at = 8
    while at < len(module):
        size, start = _number(module, at + 1)
        yield module[at], module[start : start + size]
        at = start + size


def _replace_body(code: bytes, index: int) -> bytes:
    _, at = _number(code, 0)
    for _ in range(index):
        size, start = _number(code, at)
        at = start + size
    size, start = _number(code, at)
    return code[:at] + TRAP + code[start + size :]


def _exported(exports: bytes, wanted: str) -> int:
    count, at = _number(exports, 0)
    for _ in range(count):
        length, at = _number(exports, at)
        name, kind = exports[at : at + length].decode(), exports[at + length]
        index, at = _number(exports, at + length + 1)
        if (name, kind) == (wanted, FUNCTION):
            return index
    raise LookupError(f"the module exports no function {wanted}")


def _imported_functions(imports: bytes) -> int:
    """Rust modules import functions only, so each entry is two names, a kind and a type."""
    count, at = _number(imports, 0)
    for _ in range(count):
        for _ in range(2):
            length, at = _number(imports, at)
            at += length
        assert imports[at] == FUNCTION
        _, at = _number(imports, at + 1)
    return count


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _leb(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
