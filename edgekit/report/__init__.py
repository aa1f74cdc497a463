"""The report: everything a bundle knows about itself, as one page and as Markdown.

bundles -> gather (facts) -> sections (a document) -> page (HTML) or markdown
"""
