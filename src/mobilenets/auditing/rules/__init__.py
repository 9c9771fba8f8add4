"""What each difference from the published network means: findings with their source, effect and fix."""
