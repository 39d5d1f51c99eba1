"""From records to a study."""
