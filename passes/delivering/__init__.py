"""The student's files, and the proof on the target that they keep the promise."""
