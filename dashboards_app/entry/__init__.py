"""What Streamlit starts from; apart, because it takes a `pages` folder beside its script for its own."""
