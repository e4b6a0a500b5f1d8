"""The verbs of this district: their options, and what they print. What does the work is imported when a verb
is called."""
