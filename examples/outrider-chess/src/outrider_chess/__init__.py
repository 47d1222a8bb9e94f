"""Chess by mail: the worked example of an MT2 recipient extension."""
