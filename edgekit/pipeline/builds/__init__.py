"""What build keeps, ranks and proves: jobs by content, rungs by speed, a verdict for the best."""
