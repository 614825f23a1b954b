"""The Streamlit app: pages for people, the client they read through, and the canvas in the browser.

Data is reached through the HTTP API only, so that permission is asked in one place.
"""
