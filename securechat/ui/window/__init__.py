"""The window: `securechat window`, drawn with Tk."""
