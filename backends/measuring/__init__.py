"""The stopwatch and the statistics of its samples. Passes use it too; it knows no runtime."""
