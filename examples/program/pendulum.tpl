length = {{ length }}
friction = {{ friction }}
angle = {{ angle }}
