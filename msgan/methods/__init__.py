"""Methods of the tables: each fits a cohort and translates a subject; ``cascade`` is the paper."""
