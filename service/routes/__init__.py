"""The HTTP resources, one module each: they translate, the use cases decide."""
