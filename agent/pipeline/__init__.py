"""From a registry or a folder to what serves: check, plan, fetch, verify, stage, activate."""
