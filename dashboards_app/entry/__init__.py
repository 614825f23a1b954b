"""What Streamlit starts from. A folder of its own: Streamlit takes a `pages` folder beside its script for its own."""
