"""A browser's `User-Agent` in the words that people have for it."""

import re

# In this order: what comes first also names itself as what comes after.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
_MOST = 40


def device(user_agent: str) -> str:
    """'Firefox on Linux'; of a program its name."""
    browser = next((name for sign, name in _BROWSERS.items() if sign in user_agent), "")
    system = next((name for sign, name in _SYSTEMS.items() if sign in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    program = re.split(r"[/ ]", user_agent, maxsplit=1)[0][:_MOST]
    return browser or system or program or "Unknown browser"
