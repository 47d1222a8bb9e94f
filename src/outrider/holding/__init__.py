"""AMDP's roles: who holds mail, who asks for it, who publishes policies, subscriptions, postage."""
