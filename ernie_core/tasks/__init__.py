"""See DESIGN: one file, one noun."""
