"""One file a verb; ``tools/VERB.py`` and the console command ``crkd VERB`` both call these."""
