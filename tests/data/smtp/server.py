"""A mail server on loopback (aiosmtpd). Prints its port, then each mail it took as one line of JSON."""

import argparse
import asyncio
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

options = argparse.ArgumentParser()
options.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
options.add_argument("--cert")
options.add_argument("--key")
options.add_argument("--auth", help="user:password")
options.add_argument("--first", action="append", default=[], help="answers to the first mails")
options.add_argument("--at", choices=["RCPT", "DATA"], default="RCPT")
options = options.parse_args()


def say(what):
    print(json.dumps(what), flush=True)


class Handler:
    def special(self, server):
        """What the script says comes next; `hang` and `vanish` are no answers."""
        return options.first.pop(0) if options.first else None

    async def behave(self, server, answer):
        if answer == "hang":
            await asyncio.sleep(3600)
        if answer == "vanish":
            server.transport.abort()
            await asyncio.sleep(3600)
        return answer

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if options.at == "RCPT" and (answer := self.special(server)):
            say({"said": answer})
            return await self.behave(server, answer)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if options.at == "DATA" and (answer := self.special(server)):
            say({"said": answer})
            return await self.behave(server, answer)
        say(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "body": envelope.content.decode("ascii"),
                "encrypted": session.ssl is not None or options.tls == "implicit",
                "user": session.auth_data,
            }
        )
        return "250 2.0.0 taken as 4711"


def authenticate(server, session, envelope, mechanism, data):
    user, password = (part.decode() for part in (data.login, data.password))
    good = f"{user}:{password}" == options.auth
    return AuthResult(success=good, handled=good, auth_data=user)


async def main():
    context = None
    if options.tls != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)

    def protocol():
        return SMTP(
            Handler(),
            hostname="mail.test",
            tls_context=context if options.tls == "starttls" else None,
            require_starttls=options.tls == "starttls",
            authenticator=authenticate if options.auth else None,
            auth_required=bool(options.auth),
            auth_require_tls=options.tls == "starttls",
        )

    loop = asyncio.get_running_loop()
    implicit = context if options.tls == "implicit" else None
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit)
    say({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


asyncio.run(main())
