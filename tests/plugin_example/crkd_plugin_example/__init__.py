"""An example of a plug-in for crkd; see docs/plugins.md."""
