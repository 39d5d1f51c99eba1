"""What commands show while they work, and of what they found."""
