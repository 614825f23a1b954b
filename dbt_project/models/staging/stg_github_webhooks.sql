{{ silver_events(source('silver', 'github_webhooks'), 'github-webhooks', {
    'event': 'text', 'action': 'text', 'repository': 'text', 'sender': 'text', 'ref': 'text',
    'stars': 'bigint', 'open_issues': 'bigint', 'additions': 'bigint', 'deletions': 'bigint'}) }}
