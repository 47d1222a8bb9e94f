"""The holding facility (MHF): keeps messages until they are asked for."""
