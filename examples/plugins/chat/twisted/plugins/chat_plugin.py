"""The chat service: `twistd -n evserve chat --port 9100`."""

from evserve.plugin import ServicePlugin


chat = ServicePlugin("chat", "chatroom.service", "A chat room.")
