{{ silver_events(source('silver', 'github_webhooks'), 'github-webhooks', {
    'event': 'text', 'action': 'text', 'repository': 'text', 'sender': 'text'}) }}
