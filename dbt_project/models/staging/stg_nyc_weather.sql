{{ silver_events(source('silver', 'nyc_weather'), 'nyc-weather', {
    'origin': 'text', 'temp': 'double precision', 'dewp': 'double precision', 'humid': 'double precision',
    'wind_dir': 'double precision', 'wind_speed': 'double precision', 'wind_gust': 'double precision', 'precip': 'double precision',
    'pressure': 'double precision', 'visib': 'double precision'}) }}
