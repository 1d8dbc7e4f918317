"""The dashboard of simserve, in Streamlit; it uses simserve's public names alone."""
