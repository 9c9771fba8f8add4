"""Every published variant: what it costs here, what sources print, and the way of counting that gives their figures."""
