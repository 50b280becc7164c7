"""From raw pictures to shards: ``python -m data_prep STAGE DATASET [key=value ...]``."""
