"""UTF-8 strings as MQTT allows them; native code uses ``valid_utf8`` of ``utf8.pxd``."""

def is_valid_utf8(data: bytes) -> bool:
    """Tell whether bytes are a UTF-8 string as MQTT allows it: no surrogates, no U+0000 (section 1.5.4)."""
