"""What has happened to deliveries comes back from disk. Native only: see ``restore_flows.pxd``."""
