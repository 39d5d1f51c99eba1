"""From a study to what it says."""
