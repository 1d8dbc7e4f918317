"""The pages. (A folder called `pages` beside app.py would be read by Streamlit itself.)"""
