"""Pictures of results, as inline SVG and PNG."""
