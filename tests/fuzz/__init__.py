"""Mutational fuzzing of all that reads what an MT2 peer has sent (`make fuzz`).

`recorded` keeps valid inputs, `damage` and `der` change them, the other files say what must hold whatever
comes, and `running` runs cases by their seeds: ``python -m tests.fuzz TARGET SEED`` runs one of them again.
"""
