"""What was gained: contestants timed in turn in one run, and the quality of teacher and student on the same rows."""
