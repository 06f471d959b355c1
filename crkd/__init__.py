"""crkd: class-incremental novel class discovery with class-relation distillation."""

__version__ = "0.1.0"
