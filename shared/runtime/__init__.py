import warnings

# Eventlet is in bug-fix mode and says so at each start; docs/adr/0002 says what we do about it.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
