{{ silver_events(source('silver', 'nyc_flights'), 'nyc-flights', {
    'carrier': 'text', 'flight': 'text', 'tailnum': 'text', 'origin': 'text', 'dest': 'text',
    'dep_delay': 'double precision', 'arr_delay': 'double precision', 'air_time': 'double precision',
    'distance': 'double precision'}) }}
