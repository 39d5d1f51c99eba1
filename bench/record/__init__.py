"""What was found: records of runs, profiles and failures, strict JSON, versioned, written whole.

Format history:
    1  first published form.
"""
