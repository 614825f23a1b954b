"""What Streamlit starts from; apart, because Streamlit takes a `pages` folder beside its script for its own."""
