/* Finds the edit distance of pairs of strings, with the whole table. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LENGTH 4000

// EVOLVE-BLOCK-START
static int table[MAX_LENGTH + 1][MAX_LENGTH + 1];

static int smallest(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Gives the distance of two strings of known lengths. */
static int distance(const char *a, int a_length, const char *b, int b_length)
{
    for (int i = 0; i <= a_length; i++)
        table[i][0] = i;
    for (int j = 0; j <= b_length; j++)
        table[0][j] = j;
    for (int j = 1; j <= b_length; j++) {
        for (int i = 1; i <= a_length; i++) {
            int cost = a[i - 1] == b[j - 1] ? 0 : 1;
            table[i][j] = smallest(table[i - 1][j] + 1, table[i][j - 1] + 1,
                                   table[i - 1][j - 1] + cost);
        }
    }
    return table[a_length][b_length];
}
// EVOLVE-BLOCK-END

static int read_line(char *line)
{
    if (!fgets(line, MAX_LENGTH + 2, stdin))
        exit(2);
    int length = (int)strcspn(line, "\n");
    line[length] = '\0';
    return length;
}

int main(void)
{
    static char a[MAX_LENGTH + 2], b[MAX_LENGTH + 2];
    read_line(a);
    for (int pairs = atoi(a); pairs > 0; pairs--) {
        int a_length = read_line(a);
        int b_length = read_line(b);
        printf("%d\n", distance(a, a_length, b, b_length));
    }
    return 0;
}
