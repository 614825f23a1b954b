{{ silver_events(source('silver', 'nyc_flights'), 'nyc-flights', {
    'carrier': 'text', 'carrier_name': 'text', 'flight': 'text', 'tailnum': 'text', 'origin': 'text',
    'dest': 'text', 'dest_name': 'text', 'cancelled': 'boolean',
    'dep_delay': 'double precision', 'arr_delay': 'double precision', 'air_time': 'double precision',
    'distance': 'double precision'}) }}
