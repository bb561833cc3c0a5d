"""Sequential gradient codes: one code over the tasks of successive updates."""
