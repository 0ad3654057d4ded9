"""`medgloss init`: look at a folder without opening its pictures, and propose a descriptor of what lies there."""
