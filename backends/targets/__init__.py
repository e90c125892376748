"""Target files (TOML)."""
