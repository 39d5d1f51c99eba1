"""What was found: records of runs, profiles and failures, strict JSON, versioned, written whole.

Format history:
    1  first published form.
    2  profiles tell the accuracy, the int8 operators and the size of what is timed.
"""
