"""How it samples: diffusers pipelines for the hands, for the body around them, and for both in a row."""
