"""Networks of super-blocks designed for a target (GENet section 4)."""
