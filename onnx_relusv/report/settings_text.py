"""Settings as the text of a file that --config reads."""

import json

from onnx_relusv.settings import Setting, Settings

_DELETE = "\x7f"


def settings_text(settings: Settings) -> str:
    """Settings as TOML, one a line; empty without any.

    Args:
        settings: By the options' long names. A path that is not UTF-8 gives a text that is no TOML,
            which has no way to say it.
    """
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items())


def _value(value: Setting) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, str):
        # All escapes of JSON are TOML's; TOML wants one more.
        return json.dumps(value, ensure_ascii=False).replace(_DELETE, "\\u007f")
    # Numbers, and true and false, are written alike.
    return json.dumps(value)
