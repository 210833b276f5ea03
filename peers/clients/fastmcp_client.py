"""PyPI fastmcp as a client of a gateway: fastmcp_client.py URL TOKEN TOOL ARGUMENTS"""

import asyncio
import json
import sys

from fastmcp import Client


async def main(url, token, name, arguments):
    async with Client(url, auth=token) as client:
        tools = await client.list_tools()
        result = await client.call_tool(name, json.loads(arguments))
    print(json.dumps({"tools": [tool.name for tool in tools], "text": result.content[0].text}))


asyncio.run(main(*sys.argv[1:]))
